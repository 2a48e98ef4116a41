"""What runs each table and figure needs: the paper's, and the demo's on drawn scenes."""
