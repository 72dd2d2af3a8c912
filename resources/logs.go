package resources

// Logs bounds what a node keeps of a container's output.
type Logs struct {
	// Size of one file of the log.
	MaxSize Bytes `json:"max_size,omitempty" iac:"default=10MiB"`
	// How many files of that size the log may take. Podman keeps them as one, and begins it anew when it is full.
	MaxFiles int `json:"max_files,omitempty" iac:"default=3"`
}

// The defaults of Logs, and the least that is worth keeping.
const (
	DefaultLogSize  = 10 * MiB
	DefaultLogFiles = 3
	MinLogSize      = 64 * KiB
)

func (l *Logs) setDefaults() {
	setDefault(&l.MaxSize, DefaultLogSize)
	setDefault(&l.MaxFiles, DefaultLogFiles)
}

func (l *Logs) validate(p *Problems) {
	atLeast(p, "logs.max_size", l.MaxSize, MinLogSize)
	if l.MaxFiles < 1 {
		p.Addf("logs.max_files", "is %d; give at least 1", l.MaxFiles)
	}
	if l.MaxFiles > 0 && l.MaxSize > MaxLogs/Bytes(l.MaxFiles) {
		p.Addf("logs", "comes to more than %s for each replica; lower max_size or max_files", MaxLogs)
	}
}

// MaxLogs is the most that the log of a container may take: more fills the
// disk of any node.
const MaxLogs = TiB

// LogBound gives how much of the node's disk the log of a container takes at
// most, and how much of it is kept when the container is started again.
func (t *Template) LogBound() (most, kept Bytes) {
	l := Logs{}
	if t.Logs != nil {
		l = *t.Logs
	}
	l.setDefaults()
	most = l.MaxSize * Bytes(l.MaxFiles)
	return most, min(l.MaxSize, most/2)
}
