package wire

// TraceParent returns a traceparent header of W3C Trace Context if it has the form
// of one, and "" otherwise: it goes into events.
func TraceParent(header string) string {
	const form = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(header) != len(form) {
		return ""
	}
	for i := range len(form) {
		c := header[i]
		hex := c >= '0' && c <= '9' || c >= 'a' && c <= 'f'
		if form[i] == '-' && c != '-' || form[i] != '-' && !hex {
			return ""
		}
	}
	return header
}
