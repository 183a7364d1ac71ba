package api

import (
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/scheduler"
)

// Preference is the header with which a client says that it will not read the
// jobs in full: then the answer to a package names only ID, package and state of
// its jobs, and the answer to completions only what was refused. Nearly
// half of the time that a job costs goes into these answers.
const (
	Preference        = "Prefer"
	PreferBrief       = "return=minimal"
	preferenceApplied = "Preference-Applied"
)

// brief reports whether the client wants a short answer, and says that it is one.
func brief(c *gin.Context) bool {
	for _, line := range c.Request.Header[Preference] {
		for p := range strings.SplitSeq(line, ",") {
			p, _, _ = strings.Cut(p, ";")
			if strings.EqualFold(strings.TrimSpace(p), PreferBrief) {
				c.Header(preferenceApplied, PreferBrief)
				return true
			}
		}
	}
	return false
}

// briefJobs is the short answer to a package.
func briefJobs(list []scheduler.Status) []byte {
	b := make([]byte, 0, 2+128*len(list))
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		st := &list[i]
		b = appendText(append(b, `{"id":`...), st.ID)
		b = appendText(append(b, `,"package":`...), st.Package)
		b = appendText(append(b, `,"state":`...), string(st.State))
		b = append(b, '}')
	}
	return append(b, ']')
}
