"""Gates: checks of a proposed commit, each giving a verdict with numbers, threshold and evidence."""
