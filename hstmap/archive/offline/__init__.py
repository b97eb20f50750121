"""A made archive that answers as MAST does, for rehearsals without a network."""
