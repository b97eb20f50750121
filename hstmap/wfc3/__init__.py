"""From the bytes of one WFC3/IR image to a catalogue: pure functions that know no cloud."""
