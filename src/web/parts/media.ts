import { useEffect, useState } from 'preact/hooks'

/** Whether a media query holds now. */
export function useMedia(query: string): boolean {
  const [holds, setHolds] = useState(() => matchMedia(query).matches)
  useEffect(() => {
    const list = matchMedia(query)
    const watch = () => setHolds(list.matches)
    watch()
    list.addEventListener('change', watch)
    return () => list.removeEventListener('change', watch)
  }, [query])
  return holds
}
