"""Floor 3: the nouns everyone above speaks: Group, Graph, Plan, Scores."""
