package resources

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseShare(t *testing.T) {
	for text, want := range map[string]Share{
		"0": {Given: true}, "2": {Amount: 2, Given: true}, "25%": {Amount: 25, Percent: true, Given: true}, "1000000": {Amount: 1_000_000, Given: true},
	} {
		got, err := ParseShare(text)
		if err != nil || got != want {
			t.Errorf("ParseShare(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "%", "-1", "+1", "2.5", "25 %", "%25", "1000001", "99999999999999999999", "0x1", "1_0", "25%%"} {
		if got, err := ParseShare(text); err == nil {
			t.Errorf("ParseShare(%q) = %+v; want an error", text, got)
		}
	}
}

func FuzzParseShare(f *testing.F) {
	f.Add("25%")
	f.Add("1000000")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseShare(text)
		if err != nil {
			return
		}
		if again, err := ParseShare(s.String()); err != nil || again != s {
			t.Errorf("ParseShare(%q) = %+v, whose text %q gives %+v, %v", text, s, s, again, err)
		}
		for _, replicas := range []int{0, 1, 7, 1_000_000} {
			b := Update{MaxSurge: s, MaxUnavailable: s}.Budget(replicas)
			if b.Surge < 0 || b.Unavailable < 0 || b.Surge+b.Unavailable == 0 || b.Unavailable > max(1, replicas) {
				t.Errorf("%q of %d replicas is %+v", text, replicas, b)
			}
		}
	})
}

func share(t *testing.T, text string) Share {
	t.Helper()
	if text == "" {
		return Share{}
	}
	s, err := ParseShare(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		order, surge, unavailable string
		replicas                  int
		want                      Budget
	}{
		{"", "", "", 3, Budget{Surge: 0, Unavailable: 1}},
		{StopFirst, "", "", 0, Budget{Surge: 0, Unavailable: 1}},
		{StartFirst, "", "", 3, Budget{Surge: 1, Unavailable: 0}},
		{StopFirst, "1", "", 3, Budget{Surge: 1, Unavailable: 1}},
		{StopFirst, "1", "0", 3, Budget{Surge: 1, Unavailable: 0}},
		{StartFirst, "", "1", 3, Budget{Surge: 1, Unavailable: 1}},
		{StopFirst, "25%", "25%", 10, Budget{Surge: 3, Unavailable: 2}},
		{StopFirst, "25%", "25%", 1, Budget{Surge: 1, Unavailable: 0}},
		{StopFirst, "", "25%", 3, Budget{Surge: 0, Unavailable: 1}}, // rounded down to nothing
		{StopFirst, "", "100%", 7, Budget{Surge: 0, Unavailable: 7}},
		{StopFirst, "200%", "0", 7, Budget{Surge: 14, Unavailable: 0}},
		{StopFirst, "", "10", 3, Budget{Surge: 0, Unavailable: 3}},
	} {
		u := Update{Order: c.order, MaxSurge: share(t, c.surge), MaxUnavailable: share(t, c.unavailable)}
		if got := u.Budget(c.replicas); got != c.want {
			t.Errorf("order %q, max_surge %q, max_unavailable %q of %d: %+v, want %+v", c.order, c.surge, c.unavailable, c.replicas, got, c.want)
		}
	}
}

func TestProblemsOfAnUpdate(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Update)
		want   []string
	}{
		"the defaults":              {func(*Update) {}, nil},
		"start-first":               {func(u *Update) { u.Order = StartFirst }, nil},
		"no surge, nothing missing": {func(u *Update) { u.MaxUnavailable = share(t, "0") }, []string{"update.max_unavailable"}},
		"two nothings":              {func(u *Update) { u.MaxUnavailable, u.MaxSurge = share(t, "0%"), share(t, "0") }, []string{"update.max_unavailable"}},
		"nothing missing":           {func(u *Update) { u.MaxUnavailable, u.MaxSurge = share(t, "0"), share(t, "1") }, nil},
		"start-first, none missing": {func(u *Update) { u.Order, u.MaxUnavailable = StartFirst, share(t, "0") }, nil},
		"start-first, no surge":     {func(u *Update) { u.Order, u.MaxSurge = StartFirst, share(t, "0") }, []string{"update.max_surge"}},
		"more than all":             {func(u *Update) { u.MaxUnavailable = share(t, "101%") }, []string{"update.max_unavailable"}},
		"words":                     {func(u *Update) { u.Order, u.OnFailure = "any", "explode" }, []string{"update.order", "update.on_failure"}},
		"no deadline":               {func(u *Update) { u.ProgressDeadline = 0 }, []string{"update.progress_deadline"}},
		"a deadline too short":      {func(u *Update) { u.MinReady = Duration(time.Hour) }, []string{"update.progress_deadline"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := validService()
			c.change(&s.Update)
			var paths []string
			for _, problem := range s.Validate() {
				paths = append(paths, problem.Path)
			}
			if diff := cmp.Diff(c.want, paths); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A service of a store that knew no rollouts is read, and has the defaults; and
// what was left out is not written.
func TestAServiceWithoutAnUpdate(t *testing.T) {
	var r ServiceRecord
	if err := json.Unmarshal([]byte(`{"service":{"name":"web","replicas":2,"image":"web:1","resources":{}},"revision":3}`), &r); err != nil {
		t.Fatal(err)
	}
	if r.Stable != nil || r.Service.Update != (Update{}) {
		t.Errorf("it was read as %+v", r)
	}
	text, err := json.Marshal(Update{Order: StartFirst, MaxSurge: share(t, "25%")})
	if err != nil || string(text) != `{"order":"start-first","max_surge":"25%"}` {
		t.Errorf("it is written as %s, %v", text, err)
	}
	r.Service.SetDefaults()
	if diff := cmp.Diff(Update{Order: StopFirst, ProgressDeadline: DefaultProgressDeadline, OnFailure: OnFailurePause}, r.Service.Update); diff != "" {
		t.Error(diff)
	}
}
