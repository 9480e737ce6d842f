package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/wire"
)

const maxBodyBytes = wire.MaxBytes

// readBody reads a JSON body of at most maxBodyBytes into buf, which it returns
// grown. It returns an empty slice where there is no body.
func readBody(x *exchange, r *http.Request, buf []byte) ([]byte, error) {
	if r.ContentLength == 0 {
		return buf[:0], nil
	}
	if err := checkMediaType(r.Header); err != nil {
		return buf[:0], err
	}
	if r.ContentLength > maxBodyBytes {
		x.Header().Set("Connection", "close") // rather than read what is not wanted
		return buf[:0], bodyTooLarge()
	}
	if n := int(r.ContentLength); n > 0 {
		buf = slices.Grow(buf[:0], n)[:n]
		_, err := io.ReadFull(r.Body, buf)
		return buf, unreadable(err)
	}
	// A chunked body does not say how long it is.
	buf, err := appendAll(buf[:0], io.LimitReader(r.Body, maxBodyBytes+1))
	if err != nil {
		return buf, unreadable(err)
	}
	if len(buf) > maxBodyBytes {
		x.Header().Set("Connection", "close")
		return buf[:0], bodyTooLarge()
	}
	return buf, nil
}

func appendAll(buf []byte, r io.Reader) ([]byte, error) {
	for {
		buf = slices.Grow(buf, 512)
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

func checkMediaType(h http.Header) error {
	if encoding := h["Content-Encoding"]; len(encoding) > 0 && !(len(encoding) == 1 && strings.EqualFold(encoding[0], "identity")) {
		return domain.NewError(domain.KindUnsupported, "unsupported_encoding", "the body is encoded", "send the body without Content-Encoding")
	}
	given := h["Content-Type"]
	if len(given) != 1 { // of two, others on the way may have believed the other one
		return domain.NewError(domain.KindUnsupported, "unsupported_media_type", "the body is not declared as JSON, or declared more than once",
			"send Content-Type: application/json once")
	}
	if given[0] == client.MediaTypeJSON {
		return nil
	}
	mediaType, params, err := mime.ParseMediaType(given[0])
	if charset := params["charset"]; err != nil || mediaType != client.MediaTypeJSON || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return domain.NewError(domain.KindUnsupported, "unsupported_media_type", "the body is not declared as JSON",
			"send Content-Type: application/json, in UTF-8")
	}
	return nil
}

func bodyTooLarge() error {
	return domain.NewError(domain.KindTooLarge, "body_too_large", "the body is larger than 64 KiB", "send less")
}

func unreadable(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return domain.NewError(kindTimeout, "body_timeout", "the body did not arrive in time", "send the whole request within 10 seconds")
	}
	return domain.NewError(domain.KindInvalid, "body_incomplete", "the body ended early", "send as many bytes as Content-Length says")
}
