export default function Jobs() {
  return (
    <main id="content" class="page jobs" tabIndex={-1}>
      <h1>Jobs</h1>
    </main>
  );
}
