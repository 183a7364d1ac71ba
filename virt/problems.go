package virt

// List returns the problems one by one, so that whoever checks a definition can
// report them beside others.
func (e *DefinitionError) List() []string { return e.Problems }
