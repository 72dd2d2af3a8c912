package resources

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"
)

// Bytes is an amount of memory or storage. In text it is a number with a unit:
// "512MiB", "1.5GiB", "20GB"; a bare number is bytes. Units are those of IEC
// 80000-13 (KiB, MiB, GiB, TiB, PiB) and their decimal kin (kB, MB, GB, TB, PB).
type Bytes int64

// The binary units of Bytes.
const (
	KiB Bytes = 1 << (10 * (iota + 1))
	MiB
	GiB
	TiB
	PiB
)

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"PiB", int64(PiB)},
	{"TiB", int64(TiB)},
	{"GiB", int64(GiB)},
	{"MiB", int64(MiB)},
	{"KiB", int64(KiB)},
	{"PB", 1e15},
	{"TB", 1e12},
	{"GB", 1e9},
	{"MB", 1e6},
	{"kB", 1e3},
	{"KB", 1e3},
	{"B", 1},
	{"", 1},
}

// ParseBytes reads an amount as Bytes describes it. The amount must come to a
// whole number of bytes, from 0 to 8 EiB.
func ParseBytes(text string) (Bytes, error) {
	for _, unit := range byteUnits {
		number, found := strings.CutSuffix(text, unit.suffix)
		if !found {
			continue
		}
		n, err := parseScaled(number, unit.factor)
		if err != nil {
			return 0, fmt.Errorf("%q is not an amount of bytes, like 512MiB or 20GB: %w", text, err)
		}
		return Bytes(n), nil
	}
	return 0, fmt.Errorf("%q is not an amount of bytes, like 512MiB or 20GB", text)
}

// String gives the shortest exact text in binary units.
func (b Bytes) String() string {
	if b != 0 {
		for _, unit := range byteUnits[:5] {
			if int64(b)%unit.factor == 0 {
				return fmt.Sprintf("%d%s", int64(b)/unit.factor, unit.suffix)
			}
		}
	}
	return fmt.Sprintf("%dB", int64(b))
}

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = ParseBytes(string(text))
	return err
}

// MilliCPU is an amount of processor time in thousandths of one core. In text
// it is "250m", or cores: "2", "0.5".
type MilliCPU int64

// ParseMilliCPU reads an amount as MilliCPU describes it.
func ParseMilliCPU(text string) (MilliCPU, error) {
	number, milli := strings.CutSuffix(text, "m")
	factor := int64(1000)
	if milli {
		factor = 1
	}
	n, err := parseScaled(number, factor)
	if err != nil {
		return 0, fmt.Errorf("%q is not an amount of processor time, like 250m or 1.5: %w", text, err)
	}
	return MilliCPU(n), nil
}

// String gives the shortest exact text.
func (c MilliCPU) String() string {
	if c%1000 == 0 {
		return fmt.Sprintf("%d", int64(c)/1000)
	}
	return fmt.Sprintf("%dm", int64(c))
}

// MarshalText implements encoding.TextMarshaler.
func (c MilliCPU) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *MilliCPU) UnmarshalText(text []byte) (err error) {
	*c, err = ParseMilliCPU(string(text))
	return err
}

// Duration is a length of time, written as Go writes it: "30s", "1h30m".
type Duration time.Duration

// ParseDuration reads a length of time as Duration describes it, from 0 on.
func ParseDuration(text string) (Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a length of time, like 30s or 1h30m", text)
	}
	if d < 0 {
		return 0, fmt.Errorf("%q is negative; give a length of time, like 30s or 1h30m", text)
	}
	return Duration(d), nil
}

// String gives the text that ParseDuration reads.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// parseScaled reads a plain decimal number, times factor, as a whole number.
func parseScaled(number string, factor int64) (int64, error) {
	if number == "" || len(number) > 32 || strings.Trim(number, "0123456789.") != "" {
		return 0, errors.New("the number before the unit can't be read")
	}
	value, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, errors.New("the number before the unit can't be read")
	}
	value.Mul(value, new(big.Rat).SetInt64(factor))
	switch {
	case !value.IsInt():
		return 0, errors.New("it does not come to a whole number")
	case value.Num().Cmp(big.NewInt(math.MaxInt64)) > 0:
		return 0, errors.New("it is too large")
	}
	return value.Num().Int64(), nil
}
