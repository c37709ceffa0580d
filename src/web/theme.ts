// Light, dark, or as the system has it. The choice stays in this browser.

export type Theme = 'system' | 'light' | 'dark'
const KEY = 'hoplite-theme'
const systemIsDark = matchMedia('(prefers-color-scheme: dark)')

export function chosenTheme(): Theme {
  const kept = localStorage.getItem(KEY)
  return kept === 'light' || kept === 'dark' ? kept : 'system'
}

export function chooseTheme(theme: Theme): void {
  localStorage.setItem(KEY, theme)
  applyTheme()
}

/** Begins with the theme that was chosen, and follows the system where that was. */
export function startTheme(): void {
  systemIsDark.addEventListener('change', applyTheme)
  applyTheme()
}

function applyTheme(): void {
  const theme = chosenTheme()
  const system = systemIsDark.matches ? 'dark' : 'light'
  document.documentElement.dataset['theme'] = theme === 'system' ? system : theme
}
