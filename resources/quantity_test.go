package resources

import (
	"testing"

	"pgregory.net/rapid"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "12": 12, "12B": 12, "1KiB": KiB, "1.5GiB": 3 * GiB / 2, "1024MiB": GiB, "20GB": 20e9, "0.5kB": 500,
	} {
		got, err := ParseBytes(text)
		if err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "GiB", "-1GiB", "1e3", "0.3B", "9EiB", "99999999PiB", "1 GiB", "1/2GiB", "0x10"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d; want an error", text, got)
		}
	}
}

func TestParseMilliCPU(t *testing.T) {
	for text, want := range map[string]MilliCPU{"250m": 250, "1": 1000, "0.5": 500, "1.001": 1001} {
		got, err := ParseMilliCPU(text)
		if err != nil || got != want {
			t.Errorf("ParseMilliCPU(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "m", "0.5m", "1.0001", "-1", "1 core"} {
		if got, err := ParseMilliCPU(text); err == nil {
			t.Errorf("ParseMilliCPU(%q) = %d; want an error", text, got)
		}
	}
}

func TestQuantitiesSurviveTheirText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "n")
		if got, err := ParseBytes(Bytes(n).String()); err != nil || got != Bytes(n) {
			t.Fatalf("bytes %d became %d, %v", n, got, err)
		}
		if got, err := ParseMilliCPU(MilliCPU(n).String()); err != nil || got != MilliCPU(n) {
			t.Fatalf("millicpu %d became %d, %v", n, got, err)
		}
		if got, err := ParseDuration(Duration(n).String()); err != nil || got != Duration(n) {
			t.Fatalf("duration %d became %d, %v", n, got, err)
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	f.Add("1.5GiB")
	f.Add("0.0001kB")
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBytes(text)
		if err != nil {
			return
		}
		if again, err := ParseBytes(b.String()); err != nil || again != b {
			t.Errorf("ParseBytes(%q) = %d, whose text %q gives %d, %v", text, b, b, again, err)
		}
	})
}

func FuzzParseMilliCPU(f *testing.F) {
	f.Add("250m")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseMilliCPU(text)
		if err != nil {
			return
		}
		if again, err := ParseMilliCPU(c.String()); err != nil || again != c {
			t.Errorf("ParseMilliCPU(%q) = %d, whose text %q gives %d, %v", text, c, c, again, err)
		}
	})
}
