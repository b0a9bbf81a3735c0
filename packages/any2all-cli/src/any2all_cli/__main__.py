from any2all_cli.main import main

main()
