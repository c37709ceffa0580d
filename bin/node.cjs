'use strict'
// `node` as this project pins it: everything after the name is passed on.
require('./launch.cjs').launch(process.argv.slice(2))
