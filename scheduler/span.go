package scheduler

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
)

// Span is a length of time that is written in JSON as people write it: "30s",
// "1h30m". A bare number is refused, as nobody could tell its unit.
type Span time.Duration

// D is s as the standard library has it.
func (s Span) D() time.Duration { return time.Duration(s) }

func (s Span) String() string { return component.FormatDuration(s.D()) }

// MarshalJSON writes "30s".
func (s Span) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalJSON takes what component.ParseDuration takes.
func (s *Span) UnmarshalJSON(b []byte) error {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf(`%.32s is no length of time: write "30s"`, b)
	}
	d, err := component.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`%.32q is no length of time: write "30s"`, text)
	}
	*s = Span(d)
	return nil
}
