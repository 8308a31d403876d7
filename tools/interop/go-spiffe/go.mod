module isthmus.io/tools/interop/go-spiffe

go 1.24.0

require (
	github.com/spiffe/go-spiffe/v2 v2.8.2
	isthmus.io/tools/interop/party v0.0.0
)

require github.com/go-jose/go-jose/v4 v4.1.5 // indirect

replace isthmus.io/tools/interop/party => ../party
