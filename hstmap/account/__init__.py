"""What a run takes and costs: foreseen, held while it goes on, and accounted for afterwards."""
