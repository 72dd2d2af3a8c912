package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRow(t *testing.T) {
	b := bench{name: "some", goal: 1.5}
	for _, test := range []struct {
		name          string
		more          float64
		ours, against []float64
		want          row
	}{
		{
			"odd, and the goal is met exactly", 0,
			[]float64{9, 3, 1},
			[]float64{2, 1, 90},
			row{Name: "some", Value: 3, Unit: "s", Against: 2, Ratio: 1.5, Goal: 1.5, Met: true},
		},
		{
			"a goal of its own", 0.5,
			[]float64{2.5},
			[]float64{2},
			row{Name: "some", Value: 2.5, Unit: "s", Against: 2, Ratio: 1.25, Goal: 1.25, Met: true},
		},
		{
			"even, and a hair above the goal", 0,
			[]float64{2, 1.002},
			[]float64{1, 1},
			row{Name: "some", Value: 1.501, Unit: "s", Against: 1, Ratio: 1.501, Goal: 1.5, Met: false},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := comparison{ours: test.ours, against: test.against, more: test.more}.row(b)
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestChoose(t *testing.T) {
	if all, err := choose(nil); err != nil || len(all) != len(benches) {
		t.Errorf("no name gives %d measurements, %v", len(all), err)
	}
	if one, err := choose([]string{"image-upload"}); err != nil || len(one) != 1 || one[0].name != "image-upload" {
		t.Errorf("one name gives %v, %v", one, err)
	}
	if some, err := choose([]string{"placements"}); err != nil || len(some) < 2 {
		t.Errorf("the name of a family gives %v, %v", some, err)
	}
	if _, err := choose([]string{"nothing"}); err == nil {
		t.Error("an unknown name is taken")
	}
}
