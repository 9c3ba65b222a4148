"""Takes SavedModel folders: reads them as data, cuts their graph, and asks TensorFlow in a child."""
