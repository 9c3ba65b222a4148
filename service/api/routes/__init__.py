"""What each route answers, one file a topic. How requests get here is the gate's and the body's."""
