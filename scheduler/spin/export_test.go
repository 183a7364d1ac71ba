package spin

import "net/http"

// Remembered returns how many attempts a handler knows, and how many entries its
// queue has.
func Remembered(h http.Handler) (known, queued int) {
	a := h.(*handler).attempts
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.known), len(a.queue)
}
