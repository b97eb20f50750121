"""What only AWS has: deployment, prices, the bill, and a loopback AWS to try it all on."""
