export default function Dashboard() {
  return (
    <main id="content" class="page dashboard" tabIndex={-1}>
      <h1>Dashboard</h1>
    </main>
  );
}
