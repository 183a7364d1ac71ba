package engine

// table finds jobs by their number of submission and walks them in that order.
// Numbers grow, and old jobs are forgotten, so it is a row of chunks whose empty
// beginning is cut off.
type table struct {
	base   uint64 // number of the first chunk
	chunks []*chunk
	count  int
}

const chunkSize = 512

type chunk struct {
	jobs  [chunkSize]*job
	count int
}

func (t *table) get(seq uint64) *job {
	n := seq / chunkSize
	if n < t.base || n >= t.base+uint64(len(t.chunks)) {
		return nil
	}
	if c := t.chunks[n-t.base]; c != nil {
		return c.jobs[seq%chunkSize]
	}
	return nil
}

func (t *table) put(j *job) {
	n := j.seq / chunkSize
	if len(t.chunks) == 0 {
		t.base = n
	}
	for n < t.base {
		t.chunks = append([]*chunk{nil}, t.chunks...)
		t.base--
	}
	for n >= t.base+uint64(len(t.chunks)) {
		t.chunks = append(t.chunks, nil)
	}
	at := &t.chunks[n-t.base]
	if *at == nil {
		*at = &chunk{}
	}
	if (*at).jobs[j.seq%chunkSize] == nil {
		(*at).count++
		t.count++
	}
	(*at).jobs[j.seq%chunkSize] = j
}

func (t *table) remove(seq uint64) {
	if t.get(seq) == nil {
		return
	}
	c := t.chunks[seq/chunkSize-t.base]
	c.jobs[seq%chunkSize] = nil
	t.count--
	if c.count--; c.count == 0 {
		t.chunks[seq/chunkSize-t.base] = nil
	}
	for len(t.chunks) > 0 && t.chunks[0] == nil {
		t.chunks = t.chunks[1:]
		t.base++
	}
}

// after is the first job whose number is greater, nil at the end.
func (t *table) after(seq uint64) *job {
	seq = max(seq+1, t.base*chunkSize)
	for end := (t.base + uint64(len(t.chunks))) * chunkSize; seq < end; {
		c := t.chunks[seq/chunkSize-t.base]
		if c == nil {
			seq = (seq/chunkSize + 1) * chunkSize
			continue
		}
		if j := c.jobs[seq%chunkSize]; j != nil {
			return j
		}
		seq++
	}
	return nil
}

// before is the last job whose number is smaller, nil at the beginning.
func (t *table) before(seq uint64) *job {
	seq = min(seq, (t.base+uint64(len(t.chunks)))*chunkSize)
	for seq > t.base*chunkSize {
		c := t.chunks[(seq-1)/chunkSize-t.base]
		if c == nil {
			seq = (seq - 1) / chunkSize * chunkSize
			continue
		}
		if j := c.jobs[(seq-1)%chunkSize]; j != nil {
			return j
		}
		seq--
	}
	return nil
}
