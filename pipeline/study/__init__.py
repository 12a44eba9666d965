"""What is compared: arms, real subsets, the grid of cells, training sets. It knows no training."""
