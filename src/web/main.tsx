// The dashboard's beginning: styles, the application, and what is told by the daemon from now on.

import { render } from 'preact'
import './styles/theme.css'
import './styles/frame.css'
import './styles/parts.css'
import './styles/pages.css'
import { App } from './app.tsx'
import { startLive } from './live.ts'
import { startTheme } from './theme.ts'

startTheme()
const root = document.getElementById('app')
if (root !== null) render(<App />, root)
startLive()
