package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/manager/component"
)

func tokenCmd(a *app) *cobra.Command {
	c := parent("token", "say who may ask the daemon over a network", tokenCreateCmd(a), tokenListCmd(a), tokenRevokeCmd(a))
	c.Long = `Say who may ask the daemon over a network: bearer tokens, and the TLS client
certificates that are let in, each with a role.

  reader    looks at everything
  operator  changes nodes, submits and operates jobs
  admin     may everything
  worker    takes jobs and completes them, nothing else

They stand in a file of the data directory and count for the very next request,
whether or not the daemon runs.`
	return c
}

// tokenView is a token as it is printed.
type tokenView struct {
	ID      string     `json:"id"`
	Kind    auth.Kind  `json:"kind"`
	Name    string     `json:"name"`
	Role    auth.Role  `json:"role"`
	Created time.Time  `json:"created"`
	Expires *time.Time `json:"expires,omitempty"`
	Expired bool       `json:"expired,omitempty"`
	Last    string     `json:"last,omitempty"`
	Token   string     `json:"token,omitempty"` // when it is made, never again
}

func (a *app) viewToken(t auth.Token) tokenView {
	v := tokenView{ID: t.ID, Kind: t.Kind, Name: t.Name, Role: t.Role, Created: t.Created, Expired: t.Expired(a.env.Now()), Last: t.Last}
	if !t.Expires.IsZero() {
		v.Expires = &t.Expires
	}
	return v
}

// tokens opens the file that the configuration names.
func (a *app) tokens() (*auth.Store, error) {
	if err := a.checkOutput(); err != nil {
		return nil, err
	}
	if a.server != "" {
		return nil, usagef("tokens are made on the machine of the daemon: leave --server and VAGOTH_URL out")
	}
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(string(s.Daemon.Tokens)), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the directory of the tokens: %w", err)
	}
	return auth.Open(string(s.Daemon.Tokens), auth.Options{Log: a.log(), Now: a.env.Now})
}

func tokenCreateCmd(a *app) *cobra.Command {
	var role, expires string
	var certificate bool
	c := &cobra.Command{
		Use: "create NAME", Short: "let somebody in, and print the token this once",
		Long: `Let somebody in, and print the token this once: only its hash is kept. With
--certificate it is no token, but TLS client certificates with NAME as their
common name, signed by [serve] client_ca.`,
		Example: `  vagoth token create ci --role operator --expires 90d >ci.token
  vagoth token create disk1 --role worker --certificate`,
		Args: args(1, 1, "a name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if role == "" {
				return usagef("say with --role what %s may do: reader, operator, admin or worker", args[0])
			}
			r, err := auth.ParseRole(role)
			if err != nil {
				return usageError{err}
			}
			want := auth.Spec{Name: args[0], Role: r}
			if want.Expires, err = a.expiry(expires); err != nil {
				return err
			}
			store, err := a.tokens()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			if certificate {
				made, err := store.Allow(ctx, want)
				if err != nil {
					return err
				}
				return a.print(a.viewToken(made), []string{made.ID}, func(w io.Writer) error {
					_, err := fmt.Fprintf(w, "certificates of %s are let in as %s (%s)\n", made.Name, made.Role, made.ID)
					return err
				})
			}
			made, secret, err := store.Create(ctx, want)
			if err != nil {
				return err
			}
			v := a.viewToken(made)
			v.Token = secret
			return a.print(v, []string{secret}, func(w io.Writer) error {
				a.say("token %s of %s, a %s, expires %s; it is shown this once:", made.ID, made.Name, made.Role, expiryText(made))
				_, err := fmt.Fprintln(w, secret)
				return err
			})
		},
	}
	c.Flags().StringVar(&role, "role", "", "reader, operator, admin or worker")
	c.Flags().StringVar(&expires, "expires", "", "after which time, such as 90d, or when, such as 2027-01-31; never if not given")
	c.Flags().BoolVar(&certificate, "certificate", false, "let in TLS client certificates of this name instead of making a token")
	return c
}

// expiry reads a time from now, or a date, which counts until its end.
func (a *app) expiry(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.Parse(time.DateOnly, text); err == nil {
		return t.AddDate(0, 0, 1), nil
	}
	d, err := component.ParseDuration(text)
	if err != nil || d <= 0 {
		return time.Time{}, usagef("--expires %q is neither a time such as 90d or 12h nor a date such as 2027-01-31", text)
	}
	return a.env.Now().Add(d), nil
}

func expiryText(t auth.Token) string {
	if t.Expires.IsZero() {
		return "never"
	}
	return t.Expires.Format(time.RFC3339)
}

func tokenListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "list who is let in", Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			store, err := a.tokens()
			if err != nil {
				return err
			}
			list, err := store.List()
			if err != nil {
				return err
			}
			views, ids := []tokenView{}, []string{}
			t := &table{head: []string{"ID", "KIND", "NAME", "ROLE", "EXPIRES", "ENDS IN"}}
			for _, one := range list {
				v := a.viewToken(one)
				views, ids = append(views, v), append(ids, v.ID)
				expires := expiryText(one)
				if v.Expired {
					expires += " (over)"
				}
				t.add(v.ID, string(v.Kind), v.Name, string(v.Role), expires, dash(v.Last))
			}
			return a.print(views, ids, func(w io.Writer) error {
				if len(t.rows) == 0 {
					a.say("nobody is let in: vagoth token create makes a token")
					return nil
				}
				return t.write(w, a.paint)
			})
		},
	}
}

func tokenRevokeCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID...", Short: "let somebody in no longer", Args: args(1, -1, "the IDs of tokens, which vagoth token list shows"),
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.tokens()
			if err != nil {
				return err
			}
			views, words := []tokenView{}, []string{}
			for _, id := range args {
				gone, err := store.Revoke(cmd.Context(), id)
				if err != nil {
					return err
				}
				views, words = append(views, a.viewToken(gone)), append(words, gone.ID+" of "+gone.Name)
			}
			return a.print(views, args, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, "revoked "+strings.Join(words, ", "))
				return err
			})
		},
	}
}
