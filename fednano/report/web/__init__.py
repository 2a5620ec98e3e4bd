"""The report as one page of HTML: its contents, its charts, and the template that draws them."""
