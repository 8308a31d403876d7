// A trust domain of go-spiffe's: what it does is in package party.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/federation"

	"isthmus.io/tools/interop/party"
)

type goSpiffe struct{}

func main() { party.Main(goSpiffe{}) }

func (goSpiffe) Fetch(ctx context.Context, from party.Endpoint) (*spiffebundle.Bundle, error) {
	if !from.Identity.IsZero() {
		return federation.FetchBundle(ctx, from.Domain, from.URL, federation.WithSPIFFEAuth(from.Known, from.Identity))
	}
	pool := x509.NewCertPool()
	text, err := os.ReadFile(from.WebRoots)
	if err != nil {
		return nil, err
	}
	pool.AppendCertsFromPEM(text)
	return federation.FetchBundle(ctx, from.Domain, from.URL, federation.WithWebPKIRoots(pool))
}

func (goSpiffe) Listen(address string, bundle *spiffebundle.Bundle, shown party.Shown) (string, error) {
	handler, err := federation.NewHandler(bundle.TrustDomain(), bundle)
	if err != nil {
		return "", err
	}
	certificate := tls.Certificate{Certificate: [][]byte{shown.Chain[0].Raw}, PrivateKey: shown.Key}
	listener, err := tls.Listen("tcp", net.JoinHostPort(address, "0"), &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
	})
	if err != nil {
		return "", err
	}
	go func() { log.Fatal(http.Serve(listener, handler)) }()
	return "https://" + listener.Addr().String() + "/", nil
}
