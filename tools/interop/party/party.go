// Package party is a trust domain of another implementation: it fetches another's bundle as that one does, or publishes one of its own.
//
//	PROGRAM fetch -trust-domain D -url U -web-roots FILE
//	PROGRAM fetch -trust-domain D -url U -bundle FILE -identity ID
//	PROGRAM serve -trust-domain D -address HOST -folder FOLDER
//
// fetch writes the bundle as it was understood. serve makes everything that it needs, tells where it serves in the folder, and does what it is
// told on its standard input, a word for each line: add and drop an authority, under the next sequence; back adds one under the sequence before.
package party

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// RefreshHint is what is published with every bundle.
const RefreshHint = 10 * time.Second

const (
	fetchWithin = 10 * time.Second
	validFor    = time.Hour
	endpointID  = "/bundle-endpoint"
)

// Endpoint is where a bundle is published. With an Identity it is one of https_spiffe, and Known vouches for it; else WebRoots (a file) do.
type Endpoint struct {
	Domain   spiffeid.TrustDomain
	URL      string
	Identity spiffeid.ID
	Known    *spiffebundle.Bundle
	WebRoots string
}

// Shown is what a server shows of itself.
type Shown struct {
	Chain []*x509.Certificate
	Key   crypto.PrivateKey
}

// Implementation is the code that is tried.
type Implementation interface {
	// Fetch asks an endpoint.
	Fetch(ctx context.Context, from Endpoint) (*spiffebundle.Bundle, error)
	// Listen publishes at a port of the address, with an X.509-SVID or a certificate of the web, and returns the endpoint's URL.
	Listen(address string, bundle *spiffebundle.Bundle, shown Shown) (string, error)
}

// Main is the whole program.
func Main(tried Implementation) {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("fetch or serve")
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	name := flags.String("trust-domain", "", "whose bundle it is")
	from := flags.String("url", "", "where it is published")
	webRoots := flags.String("web-roots", "", "authorities of https_web, PEM")
	bundle := flags.String("bundle", "", "the bundle that vouches for the endpoint of https_spiffe")
	identity := flags.String("identity", "", "the endpoint's identity")
	address := flags.String("address", "127.0.0.1", "where to listen")
	folder := flags.String("folder", "", "where to tell what others need to know")
	flags.Parse(os.Args[2:])
	domain, err := spiffeid.TrustDomainFromString(*name)
	check(err)
	switch os.Args[1] {
	case "fetch":
		endpoint := Endpoint{Domain: domain, URL: *from, WebRoots: *webRoots}
		if *identity != "" {
			endpoint.Identity, err = spiffeid.FromString(*identity)
			check(err)
			endpoint.Known, err = spiffebundle.Load(endpoint.Identity.TrustDomain(), *bundle)
			check(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), fetchWithin)
		defer cancel()
		found, err := tried.Fetch(ctx, endpoint)
		check(err)
		os.Stdout.Write(marshalled(found))
	case "serve":
		serve(tried, domain, *address, *folder)
	default:
		log.Fatalf("%s is neither fetch nor serve", os.Args[1])
	}
}

// An authority and its key.
type issuer struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(id *url.URL) issuer {
	key := newKey()
	template := certificate(x509.Certificate{
		IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, URIs: []*url.URL{id},
	})
	return issuer{signed(template, template, key, key), key}
}

func (by issuer) sign(template *x509.Certificate) Shown {
	key := newKey()
	return Shown{[]*x509.Certificate{signed(template, by.certificate, key, by.key)}, key}
}

func serve(tried Implementation, domain spiffeid.TrustDomain, address, folder string) {
	id, err := spiffeid.FromPath(domain, endpointID)
	check(err)
	authorities := []issuer{newAuthority(domain.ID().URL())}
	bundle := spiffebundle.FromX509Authorities(domain, []*x509.Certificate{authorities[0].certificate})
	// What an implementation for workloads with JWTs publishes, too.
	check(bundle.AddJWTAuthority("first", &newKey().PublicKey))
	bundle.SetRefreshHint(RefreshHint)
	bundle.SetSequenceNumber(1)

	bySpiffe, err := tried.Listen(address, bundle, authorities[0].sign(certificate(x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, URIs: []*url.URL{id.URL()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})))
	check(err)
	web := newAuthority(&url.URL{Scheme: "https", Host: "web.example"})
	byWeb, err := tried.Listen(address, bundle, web.sign(certificate(x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.ParseIP(address)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})))
	check(err)

	write(folder, "web-roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.certificate.Raw}))
	write(folder, "bundle.json", marshalled(bundle))
	told, err := json.Marshal(map[string]string{"identity": id.String(), "spiffe": bySpiffe, "web": byWeb})
	check(err)
	fmt.Println(string(told))

	for words := bufio.NewScanner(os.Stdin); words.Scan(); {
		sequence, _ := bundle.SequenceNumber()
		switch words.Text() {
		case "add":
			authorities = append(authorities, newAuthority(domain.ID().URL()))
			bundle.AddX509Authority(authorities[len(authorities)-1].certificate)
			bundle.SetSequenceNumber(sequence + 1)
		case "drop":
			last := len(authorities) - 1
			bundle.RemoveX509Authority(authorities[last].certificate)
			authorities = authorities[:last]
			bundle.SetSequenceNumber(sequence + 1)
		case "back":
			authorities = append(authorities, newAuthority(domain.ID().URL()))
			bundle.AddX509Authority(authorities[len(authorities)-1].certificate)
			bundle.SetSequenceNumber(sequence - 1)
		default:
			log.Fatalf("%q: add, drop or back", words.Text())
		}
		fmt.Println(len(bundle.X509Authorities()))
	}
}

func certificate(of x509.Certificate) *x509.Certificate {
	number, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	check(err)
	of.SerialNumber = number
	of.Subject = pkix.Name{Organization: []string{"foreign"}, SerialNumber: number.String()}
	of.NotBefore, of.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(validFor)
	of.BasicConstraintsValid = true
	return &of
}

func signed(template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	check(err)
	found, err := x509.ParseCertificate(der)
	check(err)
	return found
}

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	return key
}

func marshalled(bundle *spiffebundle.Bundle) []byte {
	text, err := bundle.Marshal()
	check(err)
	return text
}

func write(folder, name string, text []byte) {
	check(os.WriteFile(filepath.Join(folder, name), text, 0o600))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
