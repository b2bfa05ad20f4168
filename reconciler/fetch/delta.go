package fetch

import (
	"fmt"
)

var errDelta = fmt.Errorf("%w: bad delta", ErrCorrupt)

// applyDelta makes an object from its base: gitformat-pack(5), "Deltified representation".
func applyDelta(base, delta []byte, limit int64) ([]byte, error) {
	from, delta, err := leb128(delta)
	if err != nil {
		return nil, err
	}
	size, delta, err := leb128(delta)
	if err != nil {
		return nil, err
	}
	if from != int64(len(base)) {
		return nil, errDelta
	}
	if size > limit {
		return nil, fmt.Errorf("%w: object of %s, limit %s", ErrTooLarge, formatBytes(size), formatBytes(limit))
	}
	out := make([]byte, 0, size)
	for len(delta) > 0 {
		op := delta[0]
		delta = delta[1:]
		var piece []byte
		if op&0x80 != 0 {
			piece, delta, err = copied(base, delta, op)
		} else if n := int(op); n > 0 && n <= len(delta) {
			piece, delta = delta[:n], delta[n:]
		} else {
			err = errDelta
		}
		if err != nil || len(piece) > cap(out)-len(out) {
			return nil, errDelta
		}
		out = append(out, piece...)
	}
	if int64(len(out)) != size {
		return nil, errDelta
	}
	return out, nil
}

// copied executes a copy instruction: op says which bytes of offset and size follow.
func copied(base, delta []byte, op byte) (piece, rest []byte, err error) {
	var v [7]int
	for i := range v {
		if op&(1<<i) == 0 {
			continue
		}
		if len(delta) == 0 {
			return nil, nil, errDelta
		}
		v[i], delta = int(delta[0]), delta[1:]
	}
	offset := v[0] | v[1]<<8 | v[2]<<16 | v[3]<<24
	size := v[4] | v[5]<<8 | v[6]<<16
	if size == 0 {
		size = 0x10000
	}
	if offset > len(base) || size > len(base)-offset {
		return nil, nil, errDelta
	}
	return base[offset : offset+size], delta, nil
}

func leb128(b []byte) (int64, []byte, error) {
	var v int64
	for i, c := range b {
		if i > 8 {
			break
		}
		v |= int64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			if v < 0 {
				break
			}
			return v, b[i+1:], nil
		}
	}
	return 0, nil, errDelta
}
