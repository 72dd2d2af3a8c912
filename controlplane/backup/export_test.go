package backup

import "io"

// Seal writes what write does, and the sum that fits.
func Seal(w io.Writer, write func(io.Writer) error) error {
	s := newSealer(w)
	if err := write(s); err != nil {
		return err
	}
	return s.seal()
}
