export default function Studio() {
  return (
    <main id="content" class="page studio" tabIndex={-1}>
      <h1>Studio</h1>
    </main>
  );
}
