"""From notebooks to executed notebooks to the site."""
