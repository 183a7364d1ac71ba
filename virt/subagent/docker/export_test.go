package docker

import "io"

// Frames reads what a container without a terminal prints.
func Frames(r io.Reader) io.Reader { return &frames{r: r} }
