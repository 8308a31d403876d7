// A trust domain of SPIRE's: its client fetches, its endpoint publishes. What they do is in package party.
package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"log"
	"net"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/spire/pkg/server/bundle/client"
	"github.com/spiffe/spire/pkg/server/endpoints/bundle"

	"isthmus.io/tools/interop/party"
)

const lookEvery = 20 * time.Millisecond

type spire struct{}

func main() { party.Main(spire{}) }

func (spire) Fetch(ctx context.Context, from party.Endpoint) (*spiffebundle.Bundle, error) {
	config := client.ClientConfig{TrustDomain: from.Domain, EndpointURL: from.URL}
	if from.Identity.IsZero() {
		// It believes the system's authorities, and Go reads this before it first needs them.
		os.Setenv("SSL_CERT_FILE", from.WebRoots)
		os.Setenv("SSL_CERT_DIR", os.DevNull)
	} else {
		config.SPIFFEAuth = &client.SPIFFEAuthConfig{
			EndpointSpiffeID: from.Identity, RootCAs: from.Known.X509Authorities(),
		}
	}
	asking, err := client.NewClient(config)
	if err != nil {
		return nil, err
	}
	return asking.FetchBundle(ctx)
}

func (spire) Listen(address string, published *spiffebundle.Bundle, shown party.Shown) (string, error) {
	place, err := free(address)
	if err != nil {
		return "", err
	}
	server := bundle.NewServer(bundle.ServerConfig{
		Log:     logrus.New(),
		Address: place,
		Getter: bundle.GetterFunc(func(context.Context) (*spiffebundle.Bundle, error) {
			return published, nil
		}),
		ServerAuth: bundle.SPIFFEAuth(func() ([]*x509.Certificate, crypto.PrivateKey, error) {
			return shown.Chain, shown.Key, nil
		}),
		RefreshHint: party.RefreshHint,
	})
	go func() { log.Fatal(server.ListenAndServe(context.Background())) }()
	for {
		connection, err := tls.Dial("tcp", place, &tls.Config{InsecureSkipVerify: true})
		if err == nil {
			return "https://" + place + "/", connection.Close()
		}
		time.Sleep(lookEvery)
	}
}

// free is a port that nobody has: SPIRE's endpoint opens it by itself.
func free(address string) (string, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
