package api

import (
	"context"
	"maps"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/scheduler"
)

// ActionInfo is an action that jobs can name, with what it takes.
type ActionInfo struct {
	Name      string         `json:"name"`
	Help      string         `json:"help,omitempty"`
	Params    []ParamInfo    `json:"params"`
	AnyParams bool           `json:"any_params,omitempty"` // it takes others too
	Remote    bool           `json:"remote,omitempty"`     // done by workers outside
	Urgent    bool           `json:"urgent,omitempty"`
	Timeout   scheduler.Span `json:"timeout,omitzero"` // of one attempt, where the job names none
}

// ParamInfo is a parameter of an action.
type ParamInfo struct {
	Name     string              `json:"name"`
	Type     scheduler.ParamType `json:"type"`
	Required bool                `json:"required,omitempty"`
	Help     string              `json:"help,omitempty"`
}

func (s *server) listActions(c *gin.Context) {
	list := []ActionInfo{}
	for _, name := range slices.Sorted(maps.Keys(s.m.Actions)) {
		a := s.m.Actions[name]
		info := ActionInfo{
			Name: name, Help: a.Help, Params: []ParamInfo{}, AnyParams: a.AnyParams,
			Remote: a.Remote, Urgent: a.Urgent, Timeout: scheduler.Span(a.Timeout),
		}
		for _, p := range a.Params {
			info.Params = append(info.Params, ParamInfo(p))
		}
		list = append(list, info)
	}
	s.answer(c, list, nil)
}

// Actions returns what jobs can do, ordered by name.
func (c *Client) Actions(ctx context.Context) (list []ActionInfo, err error) {
	return list, c.call(ctx, "GET", "/v1/actions", nil, &list)
}
