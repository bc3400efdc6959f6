"""Floor 9: models, data, and studies that compare methods: models x methods x budgets x seeds x arms."""
