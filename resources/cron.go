package resources

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // schedules name time zones, which a small machine may not know
)

// Cron says at which minutes something happens, as the five fields of a line of
// crontab(5) do: minute, hour, day of the month, month, day of the week (0 and 7
// are Sunday). A field is `*`, or numbers, ranges (`1-5`) and steps (`*/15`,
// `8-18/2`), with commas between. As there, where both days are restricted, one
// of them is enough.
type Cron struct {
	minute, hour, day, month, weekday uint64 // a bit for each value
	anyDay, anyWeekday                bool
}

// cronFields are the fields of a Cron, in their order.
var cronFields = []struct {
	name        string
	least, most int
}{{"minute", 0, 59}, {"hour", 0, 23}, {"day of the month", 1, 31}, {"month", 1, 12}, {"day of the week", 0, 7}}

// ParseCron reads a line as Cron describes it.
func ParseCron(text string) (Cron, error) {
	words := strings.Fields(text)
	if len(words) != len(cronFields) {
		return Cron{}, fmt.Errorf("%q has %d fields; give five: minute, hour, day of the month, month and day of the week, like 30 7 * * 1-5", text, len(words))
	}
	var sets [5]uint64
	for i, f := range cronFields {
		for part := range strings.SplitSeq(words[i], ",") {
			set, ok := cronSet(part, f.least, f.most)
			if !ok {
				return Cron{}, fmt.Errorf("%q is not a %s; give numbers from %d to %d, ranges like 1-5, steps like */2, or *", part, f.name, f.least, f.most)
			}
			sets[i] |= set
		}
	}
	c := Cron{minute: sets[0], hour: sets[1], day: sets[2], month: sets[3], weekday: sets[4], anyDay: words[2] == "*", anyWeekday: words[4] == "*"}
	if c.weekday&(1<<7) != 0 {
		c.weekday |= 1
	}
	if !c.everHappens() {
		return Cron{}, fmt.Errorf("%q never happens: no such month has that day", text)
	}
	return c, nil
}

// everHappens is true unless the days are in none of the months.
func (c Cron) everHappens() bool {
	if !c.anyWeekday {
		return true
	}
	for month := 1; month <= 12; month++ {
		longest := [...]int{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}[month-1]
		if c.month&(1<<month) != 0 && bits.TrailingZeros64(c.day) <= longest {
			return true
		}
	}
	return false
}

// cronSet reads one part of a field.
func cronSet(part string, least, most int) (set uint64, ok bool) {
	span, by, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		if step, ok = cronNumber(by, 1, most); !ok {
			return 0, false
		}
	}
	from, to := least, most
	if span != "*" {
		low, high, ranged := strings.Cut(span, "-")
		if from, ok = cronNumber(low, least, most); !ok {
			return 0, false
		}
		switch {
		case ranged:
			if to, ok = cronNumber(high, from, most); !ok {
				return 0, false
			}
		case !stepped:
			to = from
		}
	}
	for n := from; n <= to; n += step {
		set |= 1 << n
	}
	return set, true
}

func cronNumber(text string, least, most int) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 8)
	return int(n), err == nil && int(n) >= least && int(n) <= most
}

// Matches is true in a minute at which it happens, by the time's own zone.
func (c Cron) Matches(t time.Time) bool {
	return c.onDay(t) && c.hour&(1<<t.Hour()) != 0 && c.minute&(1<<t.Minute()) != 0
}

func (c Cron) onDay(t time.Time) bool {
	if c.month&(1<<t.Month()) == 0 {
		return false
	}
	day, weekday := c.day&(1<<t.Day()) != 0, c.weekday&(1<<t.Weekday()) != 0
	if c.anyDay || c.anyWeekday {
		return day && weekday
	}
	return day || weekday
}

// Within is true where it has happened at the time, or in the span before it. It
// looks at each minute of the span, and skips days and hours without any.
func (c Cron) Within(t time.Time, span time.Duration) bool {
	minute := t.Truncate(time.Minute)
	for earliest := t.Add(-span); minute.After(earliest); {
		switch {
		case c.Matches(minute):
			return true
		case !c.onDay(minute), c.hour&(1<<minute.Hour()) == 0:
			minute = minute.Add(-time.Duration(minute.Minute()+1) * time.Minute)
		default:
			minute = minute.Add(-time.Minute)
		}
	}
	return false
}
