// Signing in with an API key. The service keeps it in a cookie that no script can read; here it is not kept at all.

import { ask } from './api.js'
import { h, put, titled } from './dom.js'
import { set, state } from './store.js'

/** @param {HTMLElement} main @param {() => void} done */
export function showSignIn(main, done) {
  const key = h('input', { type: 'password', id: 'key', autocomplete: 'current-password', spellcheck: false, required: true })
  const error = h('p', { class: 'error', role: 'alert', hidden: !state.locked }, state.locked)
  const button = h('button', { class: 'main', type: 'submit' }, 'Sign in')
  const form = h('form', { class: 'card', onsubmit: async (event) => {
    event.preventDefault()
    button.disabled = true
    try {
      // Only what a header can hold is sent; no key has anything else.
      const text = key.value.trim().replace(/[^\x21-\x7e]/g, '?')
      const answer = await fetch('/session', { method: 'POST', headers: { Accept: 'application/json', Authorization: `Bearer ${text}` } })
      if (!answer.ok) throw new Error((await answer.json()).detail)
      key.value = ''
      set({ locked: null, session: null })
      done()
    } catch (problem) {
      error.hidden = false
      error.textContent = problem.message
      key.select()
    } finally {
      button.disabled = false
    }
  } }, titled('Sign in'), h('p', { class: 'soft' }, 'This service asks for an API key. Whoever runs it makes one with “ingest keys create”.'),
  h('label', { for: 'key' }, 'API key'), key, error, button)
  put(main, form)
  key.focus()
  return () => {}
}

/** Forget the key. */
export const signOut = () => ask('/session', { method: 'DELETE' }).catch(() => {})
