package verify

import (
	"net/http"
	"time"
)

// Code is the outcome of a check. The names are part of the API.
type Code string

// The codes, in the order in which they are decided: the first that applies is the
// answer.
const (
	CodeMissing               Code = "MISSING"                 // no credential was given
	CodeMalformed             Code = "MALFORMED"               // no such key, and not the form of a token either
	CodeUnknown               Code = "UNKNOWN"                 // no such key, or not one that the asker may know of
	CodeRevoked               Code = "REVOKED"                 // revoked, or past the end of its overlap after rotation
	CodeExpired               Code = "EXPIRED"                 // past its expiry, by the verifier's clock
	CodeWrongEnvironment      Code = "WRONG_ENVIRONMENT"       // a live key where a test key is needed, or the reverse
	CodeResourceNotAccessible Code = "RESOURCE_NOT_ACCESSIBLE" // the resource belongs to another account
	CodeIPNotAllowed          Code = "IP_NOT_ALLOWED"          // the client's address is outside the key's allowed_ips
	CodeInsufficientScope     Code = "INSUFFICIENT_SCOPE"      // a required scope is missing
	CodeStale                 Code = "STALE"                   // the verifier does not know the present state
	CodeValid                 Code = "VALID"
)

// Codes returns all codes in the order in which they are decided.
func Codes() []Code {
	return []Code{
		CodeMissing, CodeMalformed, CodeUnknown, CodeRevoked, CodeExpired, CodeWrongEnvironment,
		CodeResourceNotAccessible, CodeIPNotAllowed, CodeInsufficientScope, CodeStale, CodeValid,
	}
}

// codeCount is the number of codes.
const codeCount = 11

// index returns the code's place in [Codes], without a lookup: it is on the path
// of every check. Anything else counts as stale, which grants nothing.
func (c Code) index() int {
	switch c {
	case CodeMissing:
		return 0
	case CodeMalformed:
		return 1
	case CodeUnknown:
		return 2
	case CodeRevoked:
		return 3
	case CodeExpired:
		return 4
	case CodeWrongEnvironment:
		return 5
	case CodeResourceNotAccessible:
		return 6
	case CodeIPNotAllowed:
		return 7
	case CodeInsufficientScope:
		return 8
	case CodeStale:
		return 9
	case CodeValid:
		return 10
	default:
		return 9
	}
}

// Explanation is what a door says to the bearer of a key that was checked.
type Explanation struct {
	// Status is the HTTP status at a door that the key itself opens.
	Status int
	// OAuthError is the error attribute of WWW-Authenticate (RFC 6750, 3.1); "" for
	// none. A request without any credential gets none either.
	OAuthError string
	// Cause and Solution are the product page's words, where it has some.
	Cause    string
	Solution string
	// RetryAfter is the value of Retry-After; 0 for no such header.
	RetryAfter time.Duration
}

// The error attributes of RFC 6750.
const (
	oauthInvalidToken      = "invalid_token"
	oauthInsufficientScope = "insufficient_scope"
)

// Explain returns the explanation of a code. A code that is not one of ours is
// explained as STALE, which grants nothing.
func Explain(c Code) Explanation {
	switch c {
	case CodeMissing:
		return Explanation{http.StatusUnauthorized, "", "Missing header", "Add Authorization: Bearer <key>", 0}
	case CodeMalformed, CodeUnknown:
		return Explanation{http.StatusUnauthorized, oauthInvalidToken, "Invalid key", "Check for typos, verify key is correct", 0}
	case CodeRevoked:
		return Explanation{http.StatusUnauthorized, oauthInvalidToken, "Revoked key", "Create a new key", 0}
	case CodeExpired:
		return Explanation{http.StatusUnauthorized, oauthInvalidToken, "Expired key", "Create a new key", 0}
	case CodeWrongEnvironment:
		return Explanation{http.StatusUnauthorized, oauthInvalidToken, "Wrong environment", "Use sk_live_ for production, sk_test_ for sandbox", 0}
	case CodeResourceNotAccessible:
		return Explanation{http.StatusForbidden, "", "Resource not accessible", "Verify you have access to the resource", 0}
	case CodeIPNotAllowed:
		return Explanation{http.StatusForbidden, "", "Address not allowed", "Call from an address in the key's allowed_ips, or add this one to them", 0}
	case CodeInsufficientScope:
		return Explanation{http.StatusForbidden, oauthInsufficientScope, "Insufficient scopes", "Create a new key with required scopes", 0}
	case CodeValid:
		return Explanation{http.StatusOK, "", "", "", 0}
	case CodeStale:
		return stale()
	default:
		return stale()
	}
}

func stale() Explanation {
	return Explanation{
		http.StatusServiceUnavailable, "", "Verification not up to date",
		"Try again in a moment; if it lasts, the operator must look at the verifier", time.Second,
	}
}
