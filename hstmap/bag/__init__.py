"""The map-reduce: lazy collections, plans and the engines that run them. Knows no astronomy."""
