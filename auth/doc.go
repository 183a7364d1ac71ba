// Package auth keeps who may ask a daemon over a network: bearer tokens, and
// the client certificates that are let in, in one file that people can read.
//
//	store, err := auth.Open("/var/lib/vagoth/tokens", auth.Options{})
//	made, secret, err := store.Create(ctx, auth.Spec{Name: "ci", Role: auth.Operator})
//	identity, err := store.Authenticate(request)
//
// # The file
//
// One line is one token or certificate; a line that begins with # is kept. The
// file is replaced as a whole, belongs to its owner alone (0600) and is read
// again as soon as it has changed: a token is revoked for the very next request.
// A file that cannot be read as it stands is refused with its line; a daemon
// that runs keeps what it knew and says so in its log. A file that is gone lets
// nobody in.
//
// # Why
//
// A token is 32 random bytes, so the file keeps its plain SHA-256. A slow,
// salted hash protects words that people choose, from being guessed; nobody
// guesses 256 bits, and a slow hash at each request would only make refusing
// expensive. What is compared is compared in constant time.
//
// A client certificate proves who asks (its common name); what that name may do
// stands in this file and not in the certificate. So an authority that signs for
// other purposes too cannot make administrators, and a certificate is revoked
// like a token, without a list of revoked certificates.
package auth
