package agent

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt/mistify"
)

// object is one of JSON.
type object = map[string]any

// openapi answers with the interface as a document, made from the table that
// the handler runs by.
func (s *server) openapi(c *gin.Context) {
	s.write(c, http.StatusOK, describe(s.routes(), s.a.deps.Version))
}

// describe writes the routes as an OpenAPI document.
func describe(routes []route, version string) object {
	if version == "" {
		version = "unknown"
	}
	b := schemas{known: object{}}
	paths := map[string]object{}
	problem := b.ref(mistify.ErrorBody{})
	for _, r := range routes {
		path := braces(r.path)
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(r.method)] = b.operation(r)
	}
	return object{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"info": object{
			"title": "vagoth agent", "version": version,
			"description": "What one host can do: the interface of the Mistify agent, with additions.",
			"license":     object{"name": "see the file LICENSE"},
		},
		"paths": paths,
		"components": object{
			"schemas":    b.known,
			"parameters": headers(),
			"responses": object{"Error": object{
				"description": "what is wrong",
				"headers":     object{"Retry-After": object{"description": "seconds, with 429", "schema": object{"type": "integer"}}},
				"content":     object{"application/json": object{"schema": problem}},
			}},
			"securitySchemes": object{
				"token":       object{"type": "http", "scheme": "bearer"},
				"certificate": object{"type": "mutualTLS"},
			},
		},
		"security": []object{{}, {"token": []string{}}, {"certificate": []string{}}},
	}
}

// trailHeaders are the headers that every request takes.
func trailHeaders() []string {
	return []string{mistify.HeaderTransaction, mistify.HeaderSource, mistify.HeaderReason, mistify.HeaderByJob, mistify.HeaderAttempt, mistify.HeaderToken}
}

func headers() object {
	help := map[string]string{
		mistify.HeaderTransaction: "one id for all that follows from one request",
		mistify.HeaderSource:      "who",
		mistify.HeaderReason:      "why, in words",
		mistify.HeaderByJob:       "the manager's job",
		mistify.HeaderAttempt:     "which attempt of it",
		mistify.HeaderToken:       "EPOCH.NUMBER: one that is lower than another seen for the guest is refused with 412",
	}
	out := object{}
	for _, h := range trailHeaders() {
		out[h] = object{"name": h, "in": "header", "schema": object{"type": "string"}, "description": help[h] + "; escaped as a segment of a URL's path"}
	}
	return out
}

// braces writes the parameters of a path as OpenAPI does.
func braces(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			parts[i] = "{" + name + "}"
		}
	}
	return strings.Join(parts, "/")
}

// operation writes one route.
func (b *schemas) operation(r route) object {
	params := []any{}
	for p := range strings.SplitSeq(r.path, "/") {
		if name, ok := strings.CutPrefix(p, ":"); ok {
			params = append(params, object{"name": name, "in": "path", "required": true, "schema": object{"type": "string"}, "description": pathHelp(name)})
		}
	}
	for _, q := range r.query {
		params = append(params, object{"name": q, "in": "query", "schema": queryType(q)})
	}
	for _, h := range trailHeaders() {
		params = append(params, object{"$ref": "#/components/parameters/" + h})
	}
	status, done := r.status, object{"description": "it was done", "content": b.content(r.out, r.media)}
	if status == 0 {
		status = http.StatusOK
	}
	if status == http.StatusAccepted {
		done["description"] = "a job does it"
		done["headers"] = object{mistify.HeaderJob: object{"description": "the job's id", "schema": object{"type": "string"}}}
	}
	op := object{
		"operationId": operationID(r), "summary": r.help, "parameters": params,
		"responses": object{strconv.Itoa(status): done, "default": object{"$ref": "#/components/responses/Error"}},
	}
	if r.in != nil {
		op["requestBody"] = object{"content": b.content(r.in, r.media)}
	}
	if r.role == anybody {
		op["security"] = []object{}
	} else {
		op["x-vagoth-role"] = string(r.role)
	}
	return op
}

// content is a body: bytes of the route's own type, or JSON.
func (b *schemas) content(v any, media string) object {
	if v == "" {
		return object{media: object{"schema": object{"type": "string"}}}
	}
	return object{"application/json": object{"schema": b.ref(v)}}
}

func operationID(r route) string {
	words := []string{strings.ToLower(r.method)}
	for p := range strings.SplitSeq(r.path, "/") {
		if p = strings.NewReplacer(":", "", ".", "").Replace(p); p != "" {
			words = append(words, p)
		}
	}
	if strings.HasSuffix(r.path, "/") {
		words = append(words, "index")
	}
	return strings.Join(words, "-")
}

func pathHelp(name string) string {
	switch name {
	case "guest", "job":
		return "a UUID"
	case "disk":
		return "such as 0 or vda"
	case "name":
		return "a snapshot's name"
	}
	return "an image's id, escaped as one segment"
}

func queryType(name string) object {
	switch name {
	case "limit":
		return object{"type": "integer", "minimum": 0}
	case "wait":
		return object{"type": "string", "examples": []string{"30s"}}
	}
	return object{"type": "string"}
}
