package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// object is one of JSON.
type object = map[string]any

// openapi answers with the interface as a document, made from the table that
// the handler runs by.
func (s *server) openapi(c *gin.Context) {
	s.write(c, http.StatusOK, describe(s.routes(), s.o.Version))
}

// describe writes the routes as an OpenAPI document.
func describe(routes []route, version string) object {
	if version == "" {
		version = "unknown"
	}
	b := schemas{known: object{}}
	paths := map[string]object{}
	problem := b.ref(Problem{})
	for _, r := range routes {
		path := braces(r.path)
		if paths[path] == nil {
			paths[path] = object{}
		}
		paths[path][strings.ToLower(r.method)] = b.operation(r)
	}
	b.known["Event"] = eventSchema(&b)
	return object{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"info": object{
			"title": "vagoth", "version": version,
			"description": "The management interface of a cluster. Members and parameters that are not known are refused. Every error is a Problem.",
			"license":     object{"name": "see the file LICENSE"},
		},
		"paths": paths,
		"components": object{
			"schemas":    b.known,
			"parameters": commonParameters(),
			"responses": object{"Problem": object{
				"description": "what is wrong, with a code of the table in docs/api.md",
				"headers":     object{"Retry-After": object{"description": "seconds, with 429", "schema": object{"type": "integer"}}},
				"content":     object{"application/json": object{"schema": problem}},
			}},
			"securitySchemes": object{
				"token":       object{"type": "http", "scheme": "bearer", "description": "made by vagoth token create"},
				"certificate": object{"type": "mutualTLS", "description": "a client certificate that vagoth token let in"},
			},
		},
		"security": []object{{"token": []string{}}, {"certificate": []string{}}},
	}
}

// commonHeaders are the parameters that every request takes.
func commonHeaders() []string {
	return []string{HeaderTransaction, HeaderSource, HeaderReason, HeaderConsistent}
}

func commonParameters() object {
	const escaped = "; escaped as a segment of a URL's path"
	help := map[string]string{
		HeaderTransaction: "one id for all that follows from one request" + escaped,
		HeaderSource:      "who, beside the token's name" + escaped,
		HeaderReason:      "why, in words" + escaped,
		HeaderConsistent:  "true has the request see all that any manager acknowledged before, where several share a registry",
	}
	out := object{}
	for _, h := range commonHeaders() {
		out[h] = object{"name": h, "in": "header", "schema": object{"type": "string"}, "description": help[h]}
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
	if r.ifMatch {
		params = append(params, object{"name": "If-Match", "in": "header", "schema": object{"type": "string"}, "description": "the ETag that the node must still have"})
	}
	if r.brief {
		params = append(params, object{"name": Preference, "in": "header", "schema": object{"type": "string", "examples": []string{PreferBrief}},
			"description": PreferBrief + " asks for a short answer, which says so in " + preferenceApplied + ": of jobs id, package and state, of a list of completions only what was refused"})
	}
	for _, h := range commonHeaders() {
		params = append(params, object{"$ref": "#/components/parameters/" + h})
	}
	done := object{"description": "it was done", "content": b.content(r.out, r.media)}
	if r.brief {
		done["headers"] = object{preferenceApplied: object{"schema": object{"type": "string"}, "description": PreferBrief + " if the answer is a short one"}}
	}
	op := object{
		"operationId": operationID(r), "summary": r.help, "parameters": params,
		"responses": object{
			"200":     done,
			"default": object{"$ref": "#/components/responses/Problem"},
		},
	}
	if r.in != nil {
		op["requestBody"] = object{"content": b.content(r.in, r.media), "required": r.media != ""}
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
	for p := range strings.SplitSeq(strings.TrimPrefix(r.path, "/v1"), "/") {
		if p = strings.Map(func(c rune) rune {
			if c == ':' || c == '.' {
				return -1
			}
			return c
		}, p); p != "" {
			words = append(words, p)
		}
	}
	return strings.Join(words, "-")
}

func pathHelp(name string) string {
	switch name {
	case "ref":
		return "a node's ID, name or unique key, escaped as one segment"
	case "name":
		return "a name, escaped as one segment"
	case "key":
		return "a blob's key"
	}
	return "the ID"
}

func queryType(name string) object {
	switch name {
	case "limit":
		return object{"type": "integer", "minimum": 1}
	case "dry_run", "nodes", "jobs":
		return object{"type": "boolean"}
	case "wait":
		return object{"type": "string", "examples": []string{"30s"}}
	case "since":
		return object{"type": "string", "format": "date-time"}
	}
	if multiple(name) {
		return object{"type": "array", "items": object{"type": "string"}}
	}
	return object{"type": "string"}
}

// eventSchema says what the data of each type of event are.
func eventSchema(b *schemas) object {
	return object{
		"description": "the data of the events of /v1/events, by the event's type",
		"type":        "object",
		"properties": object{
			EventBegin: b.ref(Begun{}), EventNode: b.ref(NodeEvent{}), EventJob: object{"$ref": "#/components/schemas/scheduler.Status"},
			EventPlace: b.ref(Empty{}), EventEnd: b.ref(Problem{}), EventGone: b.ref(Problem{}),
		},
	}
}
