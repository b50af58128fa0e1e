"""`where` in a plugin's table: an expression in CEL that says which events the plugin gets.

1. `syntax` reads the text into nodes with their places, whatever package evaluates it.
2. `rules` refuses what a filter must not have, and puts flat names in the place of `event.hook` and the like.
3. `engine` is the only module that knows the package that compiles and evaluates CEL.
4. `values` takes what an expression reads out of an event.
5. `outcome` is that an expression has no result.
6. `expression` puts these together; `plugin_filter` is one plugin's, with its counts.
"""
