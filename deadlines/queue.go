package deadlines

// queue is a binary heap of records by when they are due. Each record knows its
// place, so that a change of it costs the depth of the heap.
type queue struct {
	entries []entry
	records *[]record
}

// entry has the time beside it, so that comparing does not go to the record.
type entry struct {
	due  int64 // µs since 1970
	slot uint32
}

// set puts a record in its place, or takes it out if it is never due.
func (q *queue) set(slot uint32, due int64) {
	pos := int((*q.records)[slot].pos)
	if due == never {
		q.remove(slot)
		return
	}
	if pos < 0 {
		q.entries = append(q.entries, entry{})
		q.up(len(q.entries)-1, entry{due, slot})
		return
	}
	if e := (entry{due, slot}); due < q.entries[pos].due {
		q.up(pos, e)
	} else {
		q.down(pos, e)
	}
}

func (q *queue) remove(slot uint32) {
	pos := int((*q.records)[slot].pos)
	if pos < 0 {
		return
	}
	(*q.records)[slot].pos = outside
	end := len(q.entries) - 1
	last := q.entries[end]
	q.entries = q.entries[:end]
	if pos == end {
		return
	}
	if pos > 0 && last.due < q.entries[(pos-1)/2].due {
		q.up(pos, last)
	} else {
		q.down(pos, last)
	}
}

// first returns when the first record is due, never if there is none.
func (q *queue) first() int64 {
	if len(q.entries) == 0 {
		return never
	}
	return q.entries[0].due
}

// until calls visit for records that are due at now, the first of all first, until
// it returns false. It looks at no more than twice as many as it visits.
func (q *queue) until(now int64, visit func(slot uint32) bool) {
	if q.first() > now {
		return
	}
	level := []int{0} // whose ancestors are all due
	for len(level) > 0 {
		pos := level[0]
		level = level[1:]
		if !visit(q.entries[pos].slot) {
			return
		}
		for child := 2*pos + 1; child <= 2*pos+2 && child < len(q.entries); child++ {
			if q.entries[child].due <= now {
				level = append(level, child)
			}
		}
	}
}

// overdue counts the records that are due at now.
func (q *queue) overdue(now int64) int {
	n := 0
	for i := range q.entries {
		if q.entries[i].due <= now {
			n++
		}
	}
	return n
}

func (q *queue) put(pos int, e entry) {
	q.entries[pos] = e
	(*q.records)[e.slot].pos = int32(pos) //nolint:gosec // a log of 2^31 keys is refused by memory first
}

func (q *queue) up(pos int, e entry) {
	for pos > 0 {
		parent := (pos - 1) / 2
		if q.entries[parent].due <= e.due {
			break
		}
		q.put(pos, q.entries[parent])
		pos = parent
	}
	q.put(pos, e)
}

func (q *queue) down(pos int, e entry) {
	for {
		child := 2*pos + 1
		if child >= len(q.entries) {
			break
		}
		if right := child + 1; right < len(q.entries) && q.entries[right].due < q.entries[child].due {
			child = right
		}
		if e.due <= q.entries[child].due {
			break
		}
		q.put(pos, q.entries[child])
		pos = child
	}
	q.put(pos, e)
}
