// Package imagefs keeps file systems of a fixed size in files, on whichever file
// system these are: what is in one can't be more than its size, and has that much
// room, whatever is beside it. They are ext4, mounted through loop devices that
// the kernel frees with the mount. It needs root, mkfs.ext4, e2fsck and resize2fs.
package imagefs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/skerry-io/skerry/resources"
)

// NotGrownError is a file system that is mounted and as large as it was.
type NotGrownError struct{ Err error }

func (e *NotGrownError) Error() string { return e.Err.Error() }

// Unwrap gives what was in the way.
func (e *NotGrownError) Unwrap() error { return e.Err }

// Mount mounts the file system of a file at a directory, which is made; it makes
// it, where the file is not there, and lets it grow to the size, where it is
// smaller. It never shrinks. One that is mounted there already is left so. Where
// all went well but the growth, the error is a *NotGrownError.
func Mount(file, dir string, size resources.Bytes) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	mounted, err := Mounted(dir)
	if err != nil {
		return err
	}
	if !mounted {
		return mount(file, dir, size)
	}
	refused := growMounted(file, dir, size)
	if refused == nil {
		return nil
	}
	// The kernel lets only those grow what is mounted who may exceed quotas. Where
	// nobody uses it, it need not be mounted.
	alone, err := mountedOnce(dir)
	if err == nil && !alone {
		err = errors.New("it is in use")
	}
	if err == nil {
		err = Unmount(dir)
	}
	if err != nil {
		return &NotGrownError{errors.Join(refused, err)}
	}
	return mount(file, dir, size)
}

// mount mounts what is not mounted at the directory. Somebody else may have it
// mounted elsewhere: a file is on one loop device at a time.
func mount(file, dir string, size resources.Bytes) error {
	device, err := attached(file)
	if err != nil {
		return err
	}
	var notGrown error
	if device != nil {
		if small, err := smaller(device, size); err != nil || small {
			notGrown = &NotGrownError{errors.Join(err, fmt.Errorf("grow %s: it is in use", file))}
		}
	} else if device, notGrown, err = open(file, size); err != nil {
		return err
	}
	defer device.Close() //nolint:errcheck // the mount has it from now on
	if err := unix.Mount(device.Name(), dir, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", file, err)
	}
	// e2fsck makes it again when it needs it; a program that wants an empty
	// directory does not.
	if err := os.Remove(filepath.Join(dir, "lost+found")); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return notGrown
}

// open gives a loop device of the file, which is made, or checked and grown.
func open(file string, size resources.Bytes) (device *os.File, notGrown, err error) {
	opened, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := format(file, size); err != nil {
			return nil, nil, err
		}
		device, err = attach(file)
		return device, nil, err
	}
	if err != nil {
		return nil, nil, err
	}
	defer opened.Close() //nolint:errcheck // it was read
	small, err := smaller(opened, size)
	if err == nil {
		err = check(file, small)
	}
	if err != nil {
		return nil, nil, err
	}
	if small {
		err := reserveFile(file, size)
		if err == nil {
			err = run("resize2fs", file)
		}
		if err != nil {
			notGrown = &NotGrownError{err}
		}
	}
	device, err = attach(file)
	return device, notGrown, err
}

// Unmount undoes Mount. It is an error while somebody uses what is in there.
func Unmount(dir string) error {
	mounted, err := Mounted(dir)
	if err != nil || !mounted {
		return err
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}

// Mounted is true where something is mounted at the directory. One that is not
// there has nothing mounted.
func Mounted(dir string) (bool, error) {
	var here, above unix.Stat_t
	err := unix.Lstat(dir, &here)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err == nil {
		err = unix.Stat(filepath.Dir(dir), &above)
	}
	return here.Dev != above.Dev, err
}

// format makes the file whole, or not at all.
func format(file string, size resources.Bytes) error {
	unready := file + ".new"
	made, err := os.Create(unready)
	if err != nil {
		return err
	}
	defer os.Remove(unready) //nolint:errcheck // it has its own name by then, if all went well
	defer made.Close()       //nolint:errcheck // mkfs writes it anew
	if err := reserve(made, size); err != nil {
		return err
	}
	// The blocks stay the file's, and root has no share of its own: the size is what
	// programs may write.
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,root_owner=0:0", unready); err != nil {
		return err
	}
	return os.Rename(unready, file)
}

// check repairs what a power loss has left, as each boot does with other disks.
// All of it is looked at where it is thorough.
func check(file string, thorough bool) error {
	args := []string{"-p", file}
	if thorough {
		args = append(args, "-f")
	}
	err := run("e2fsck", args...)
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() == 1 { // it has repaired something
		return nil
	}
	return err
}

// reserve gives a file all the room of its size.
func reserve(file *os.File, size resources.Bytes) error {
	there, err := file.Stat()
	if err != nil {
		return err
	}
	var disk unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &disk); err != nil {
		return err
	}
	if missing, free := size-resources.Bytes(there.Size()), resources.Bytes(disk.Bavail)*resources.Bytes(disk.Bsize); missing > free {
		return fmt.Errorf("size is %s, for which the node's disk has to have %s more, and has %s", size, missing, free)
	}
	if err := unix.Fallocate(int(file.Fd()), 0, there.Size(), int64(size)-there.Size()); err != nil {
		return fmt.Errorf("size is %s, and the node's disk can't promise that: %w", size, err)
	}
	return nil
}

// growMounted lets a mounted file system grow where it is smaller.
func growMounted(file, dir string, size resources.Bytes) error {
	device, err := deviceOf(dir)
	if err != nil {
		return err
	}
	defer device.Close() //nolint:errcheck // the mount has it
	if small, err := smaller(device, size); err != nil || !small {
		return err
	}
	if err := reserveFile(file, size); err != nil {
		return err
	}
	if err := unix.IoctlSetInt(int(device.Fd()), unix.LOOP_SET_CAPACITY, 0); err != nil {
		return fmt.Errorf("grow %s: %w", device.Name(), err)
	}
	return run("resize2fs", device.Name())
}

// smaller is true where the file system, in a file or on a device, is smaller than
// that. A few blocks at its end may be too few for ext4 to use them.
func smaller(disk io.ReaderAt, size resources.Bytes) (bool, error) {
	// The superblock, by its offsets: Documentation/filesystems/ext4/globals.rst.
	var block [1024]byte
	if _, err := disk.ReadAt(block[:], 1024); err != nil {
		return false, fmt.Errorf("read the size of the file system: %w", err)
	}
	word := func(at int) uint64 { return uint64(binary.LittleEndian.Uint32(block[at:])) }
	if binary.LittleEndian.Uint16(block[0x38:]) != 0xEF53 {
		return false, errors.New("read the size of the file system: it is none of ext4")
	}
	blocks := word(0x4)
	if is64bit := word(0x60)&0x80 != 0; is64bit {
		blocks |= word(0x150) << 32
	}
	const unused = 4 * resources.MiB
	return resources.Bytes(blocks<<(10+word(0x18)))+unused < size, nil
}

// reserveFile gives a file all the room of the size, unless it has more.
func reserveFile(file string, size resources.Bytes) error {
	opened, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer opened.Close() //nolint:errcheck // nothing was written
	there, err := opened.Stat()
	if err != nil || there.Size() >= int64(size) {
		return err
	}
	return reserve(opened, size)
}

// deviceOf opens the loop device that is mounted at a directory.
func deviceOf(dir string) (*os.File, error) {
	all, err := mounts()
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.at == dir {
			return os.OpenFile(m.source, os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("nothing is mounted at %s", dir)
}

// mountedOnce is true where what is mounted at a directory is mounted nowhere else.
func mountedOnce(dir string) (bool, error) {
	all, err := mounts()
	source := ""
	for _, m := range all {
		if m.at == dir {
			source = m.source
		}
	}
	others := slices.DeleteFunc(all, func(m mounting) bool { return m.at == dir || m.source != source })
	return len(others) == 0, err
}

type mounting struct{ at, source string }

func mounts() ([]mounting, error) {
	text, err := os.ReadFile("/proc/thread-self/mountinfo")
	var all []mounting
	for line := range strings.Lines(string(text)) {
		// As in "36 35 98:0 / /mnt rw - ext4 /dev/loop0 rw".
		at, source, found := strings.Cut(line, " - ")
		if fields, sources := strings.Fields(at), strings.Fields(source); found && len(fields) > 4 && len(sources) > 1 {
			all = append(all, mounting{fields[4], sources[1]})
		}
	}
	return all, err
}

// attached gives the loop device that has the file; nil where none has.
func attached(file string) (*os.File, error) {
	var there unix.Stat_t
	err := unix.Stat(file, &there)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	for _, path := range all {
		device, err := os.OpenFile("/dev/"+filepath.Base(filepath.Dir(path)), os.O_RDWR, 0)
		if err != nil {
			continue // it was freed
		}
		info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
		if err == nil && info.Inode == there.Ino && info.Device == there.Dev {
			return device, nil
		}
		device.Close() //nolint:errcheck // nothing was written
	}
	return nil, nil
}

// attach gives a loop device of the file, which the kernel frees once nobody has it.
func attach(file string) (*os.File, error) {
	backing, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close() //nolint:errcheck // the device has it
	control, err := openControl()
	if err != nil {
		return nil, err
	}
	defer control.Close() //nolint:errcheck // it was asked
	for {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		copy(config.Info.File_name[:], file)
		err = unix.IoctlLoopConfigure(int(device.Fd()), &config)
		if err == nil {
			return device, nil
		}
		device.Close()         //nolint:errcheck // nothing was written
		if err != unix.EBUSY { //nolint:errorlint // it is the kernel's; somebody else was faster
			return nil, err
		}
	}
}

// openControl asks the kernel for loop devices, which it may have to load first.
func openControl() (*os.File, error) {
	const control = "/dev/loop-control"
	opened, err := os.OpenFile(control, os.O_RDWR, 0)
	if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
		return opened, err
	}
	if err := run("modprobe", "loop"); err != nil {
		return nil, err
	}
	return os.OpenFile(control, os.O_RDWR, 0)
}

// run runs a program, and says what it said where it fails.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("size needs %s, which the node does not have: install e2fsprogs there, or leave size out", name)
	case err != nil:
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
