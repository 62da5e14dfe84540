"""What every stage uses: files that are never half written, saved networks, grids and charts."""
