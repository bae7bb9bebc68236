package console_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"edged.dev/edged/api/console"
)

func TestThePageIsServedAndTheRestPassedOn(t *testing.T) {
	t.Parallel()
	h := console.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	get := func(method, path string) *http.Response {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(method, path, nil))
		return rec.Result()
	}
	page := get(http.MethodGet, console.Path)
	require.Equal(t, http.StatusOK, page.StatusCode)
	require.Equal(t, "text/html; charset=utf-8", page.Header.Get("Content-Type"))
	require.Contains(t, page.Header.Get("Content-Security-Policy"), "default-src 'none'")
	body, err := io.ReadAll(page.Body)
	require.NoError(t, err)
	for _, asked := range []string{"/status", "/v1/rejoin", "/v1/events"} {
		require.Contains(t, string(body), "'"+asked+"'")
	}
	require.NotContains(t, string(body), "innerHTML", "what is shown is text")

	require.Equal(t, http.StatusMovedPermanently, get(http.MethodGet, "/console").StatusCode)
	require.Equal(t, http.StatusMethodNotAllowed, get(http.MethodPost, console.Path).StatusCode)
	require.Equal(t, http.StatusTeapot, get(http.MethodGet, "/status").StatusCode)
}
