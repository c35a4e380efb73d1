// What stands around every page: navigation, connection, theme, who is here, notices, signing in.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";

import { Problem, reachable, words } from "./net/http";
import { dismiss, notices } from "./state/notices";
import { follows, route } from "./state/router";
import { isAdmin, session, signedIn, signIn, signOut } from "./state/session";
import { theme, type Theme } from "./state/theme";
import { Button, Field, WorkButton } from "./ui/basics";
import { Icon, type IconName } from "./ui/icons";

const PAGES: { page: string; href: string; title: string; icon: IconName; admin?: boolean }[] = [
  { page: "studio", href: "/", title: "Studio", icon: "studio" },
  { page: "jobs", href: "/jobs", title: "Jobs", icon: "jobs" },
  { page: "dashboard", href: "/dashboard", title: "Dashboard", icon: "dashboard", admin: true },
];
const THEMES: Record<Theme, { next: Theme; icon: IconName; label: string }> = {
  system: { next: "light", icon: "system", label: "Theme: as the system. Change to light" },
  light: { next: "dark", icon: "sun", label: "Theme: light. Change to dark" },
  dark: { next: "system", icon: "moon", label: "Theme: dark. Change to the system's" },
};

export function Shell({ children }: { children: ComponentChildren }) {
  return (
    <div class="shell" onClick={follows}>
      <a class="skip" href="#content" onClick={toContent}>
        Skip to the content
      </a>
      <Top />
      <Connection />
      {session.value === undefined ? <Waiting /> : signedIn.value ? children : <SignIn />}
      <Notices />
    </div>
  );
}

/** Until the service has said who is here: pages ask for nothing before. */
function Waiting() {
  return <main id="content" class="loading" aria-busy="true" tabIndex={-1} />;
}

function toContent(event: Event): void {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Top() {
  const now = THEMES[theme.value];
  return (
    <header class="top">
      <a class="brand" href="/">
        <span class="mark" aria-hidden="true" />
        Pixelmill
      </a>
      <nav aria-label="Pages">
        {PAGES.filter((one) => !one.admin || isAdmin.value).map((one) => (
          <a key={one.page} href={one.href} aria-current={route.value.page === one.page ? "page" : undefined}>
            <Icon name={one.icon} />
            <span>{one.title}</span>
          </a>
        ))}
      </nav>
      <div class="top-end">
        <Button kind="quiet" icon={now.icon} label={now.label} onClick={() => (theme.value = now.next)} />
        {session.value?.owner && session.value.tokens_needed && (
          <>
            <span class="who" title="Signed in as">
              <Icon name="user" size={16} />
              {session.value.owner}
            </span>
            <WorkButton kind="quiet" work={signOut}>
              Sign out
            </WorkButton>
          </>
        )}
      </div>
    </header>
  );
}

function Connection() {
  return (
    <div class="connection" role="status" aria-live="polite">
      {!reachable.value && (
        <p>
          <Icon name="warning" size={16} /> The service does not answer. Nothing here is lost: this page goes on by itself when it is back.
        </p>
      )}
    </div>
  );
}

function SignIn() {
  const token = useSignal("");
  const error = useSignal("");
  const submit = async () => {
    error.value = "";
    try {
      await signIn(token.value.trim());
      token.value = "";
    } catch (failure) {
      error.value = failure instanceof Problem && failure.status === 401 ? "This token is not valid here." : words(failure);
    }
  };
  return (
    <main id="content" class="sign-in" tabIndex={-1}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <h1>Sign in</h1>
        <p>
          This service needs a token. Whoever runs it makes one with <code>pixelmill tokens create</code>.
        </p>
        <Field label="Token" error={error.value || undefined}>
          {({ id, describedBy }) => (
            <input
              id={id}
              aria-describedby={describedBy}
              type="password"
              autocomplete="current-password"
              placeholder="pm_…"
              required
              value={token.value}
              onInput={(event) => (token.value = event.currentTarget.value)}
            />
          )}
        </Field>
        <Button kind="main" type="submit">
          Sign in
        </Button>
      </form>
    </main>
  );
}

function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.id} class={`toast ${notice.kind}`}>
          <p>{notice.text}</p>
          {notice.action?.href && <a href={notice.action.href}>{notice.action.label}</a>}
          {notice.action?.do && (
            <Button kind="quiet" onClick={notice.action.do}>
              {notice.action.label}
            </Button>
          )}
          <Button kind="quiet" icon="close" label="Dismiss" onClick={() => dismiss(notice.id)} />
        </div>
      ))}
    </div>
  );
}
