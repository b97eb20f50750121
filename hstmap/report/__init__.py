"""Pictures of what a run found: reads results, changes none."""
