"""Write a trained student as files that other programs run, measure them, and say which may ship."""
